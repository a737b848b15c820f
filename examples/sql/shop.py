"""A small shop, made by a seed, and what is asked of it; or a database of a data set where that is at hand."""

import json
import os
import random
from functools import lru_cache
from pathlib import Path

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, city TEXT, joined TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, kind TEXT NOT NULL, price INTEGER NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER NOT NULL, day TEXT NOT NULL, state TEXT NOT NULL);
CREATE TABLE lines (orders INTEGER NOT NULL, product INTEGER NOT NULL, count INTEGER NOT NULL);
"""
QUESTIONS = {
    "abroad": (
        "Names of the customers who do not live in Oslo; those whose city is not known belong to them.",
        "SELECT name FROM customers WHERE city IS NOT 'Oslo'",
    ),
    "average": (
        "The mean number of lines of an order that has any, as a fraction.",
        "SELECT avg(n) FROM (SELECT count(*) AS n FROM lines GROUP BY orders)",
    ),
    "big": (
        "Ids of the orders with at least four lines.",
        "SELECT orders FROM lines GROUP BY orders HAVING count(*) >= 4",
    ),
    "buyers": (
        "Names of the customers with an order that was sent; each customer once.",
        "SELECT name FROM customers WHERE id IN (SELECT customer FROM orders WHERE state = 'sent')",
    ),
    "cheap": (
        "Names of the products that cost 20 or less, the cheapest first, and by name where prices are equal.",
        "SELECT name FROM products WHERE price <= 20 ORDER BY price, name",
    ),
    "idle": (
        "Names of the customers without any order.",
        "SELECT name FROM customers WHERE id NOT IN (SELECT customer FROM orders)",
    ),
    "kinds": (
        "Each kind with the number of its products that cost more than 50; 0 where there is none.",
        "SELECT kind, sum(price > 50) FROM products GROUP BY kind",
    ),
    "orders": (
        "Each customer's name and number of orders; 0 for those without one.",
        "SELECT c.name, count(o.id) FROM customers AS c LEFT JOIN orders AS o ON o.customer = c.id GROUP BY c.id",
    ),
    "second": (
        "The second highest price that there is.",
        "SELECT max(price) FROM products WHERE price < (SELECT max(price) FROM products)",
    ),
    "spring": (
        "How many orders there were from March to May.",
        "SELECT count(*) FROM orders WHERE substr(day, 6, 2) IN ('03', '04', '05')",
    ),
    "top": (
        "Names of the three products that were sold most often, by the sum of count, the most sold first; "
        "by name where they are equal. Lines of orders with the state 'void' do not count.",
        "SELECT p.name FROM products AS p JOIN lines AS l ON l.product = p.id JOIN orders AS o ON o.id = l.orders "
        "WHERE o.state <> 'void' GROUP BY p.id ORDER BY sum(l.count) DESC, p.name LIMIT 3",
    ),
    "value": (
        "Each order's id and value, which is the sum of price times count.",
        "SELECT l.orders, sum(p.price * l.count) FROM lines AS l JOIN products AS p ON p.id = l.product "
        "GROUP BY l.orders",
    ),
}
"""By name of the query: what is asked, and a query that answers it, which no candidate and no model is shown."""


def script(seed):
    """SQL that makes a shop: other customers, products and orders for each seed."""
    rng = random.Random(f"shop {seed}")
    out = [SCHEMA]

    def rows(table, made):
        out.append(f"INSERT INTO {table} VALUES {', '.join('(' + ', '.join(map(_quoted, row)) + ')' for row in made)};")

    def day():
        return f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"

    cities = ["Oslo", "Oslo", "Rome", "Kyiv", None]
    names = rng.sample(["Ada", "Bo", "Cleo", "Dan", "Eve", "Finn", "Gus", "Hal", "Ida", "Jo", "Kim", "Leo"], 10)
    rows("customers", [(k + 1, name, rng.choice(cities), day()) for k, name in enumerate(names)])
    goods = rng.sample(["lamp", "chair", "vase", "desk", "rug", "mug", "clock", "shelf", "plant", "bowl"], 9)
    prices = [20, 50, *(rng.choice((5, 12, 20, 35, 50, 60, 80)) for _ in goods[2:])]
    rows("products", [(k + 1, name, rng.choice("abc"), prices[k]) for k, name in enumerate(goods)])
    buyers = rng.sample(range(1, 11), 7)
    states = ["sent", "sent", "open", "void"]
    orders = [(k, rng.choice(buyers), day(), rng.choice(states)) for k in range(1, 25)]
    rows("orders", orders)
    lines = [(k, p, rng.randint(1, 5)) for k, *_ in orders[:-2] for p in rng.sample(range(1, 9), rng.randint(1, 6))]
    rows("lines", lines)
    return "\n".join(out)


def _quoted(value):
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


@lru_cache(maxsize=1)
def given():
    """The questions of the database that SQL_DB names, in the folder that TRUEGAIN_DATA names; None without SQL_DB.

    Returns:
        The script that makes the database, and by name of the query the question and its accepted results.
    """
    name = os.environ.get("SQL_DB")
    if not name:
        return None
    folder = os.environ.get("TRUEGAIN_DATA")
    if not folder:
        raise FileNotFoundError("TRUEGAIN_DATA names no folder; it must hold sql/questions.jsonl and sql/schema")
    made = (Path(folder) / "sql" / "schema" / f"{name}.sql").read_text(encoding="utf-8")
    rows = (Path(folder) / "sql" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    found = {key(row["id"]): row for row in map(json.loads, rows) if row["db"] == name}
    return made, found


def key(name):
    """The name of the query's file for a question's id, such as q017 for sql/dev/17."""
    return f"q{int(name.rpartition('/')[2]):03}"
