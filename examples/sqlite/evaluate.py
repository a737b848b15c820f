"""Milliseconds that nine queries on a small shop database take, by the indexes it has and how SQLite is set."""

import hashlib
import inspect
import os
import random
import sqlite3
import tempfile
import time
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT, name TEXT, city TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, placed TEXT, status TEXT, channel TEXT, total INTEGER);
CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER, sku TEXT, quantity INTEGER, price INTEGER);
"""

INDEXES = {
    "idx_customers_email": "customers(email)",
    "idx_customers_city": "customers(city)",
    "idx_orders_customer": "orders(customer_id)",
    "idx_orders_customer_covering": "orders(customer_id, placed, status, channel, total)",
    "idx_orders_status": "orders(status)",
    "idx_orders_status_placed": "orders(status, placed)",
    "idx_orders_placed": "orders(placed)",
    "idx_orders_total": "orders(total)",
    "idx_items_order": "items(order_id)",
    "idx_items_order_covering": "items(order_id, sku, quantity, price)",
    "idx_items_sku": "items(sku)",
    "idx_items_sku_covering": "items(sku, quantity, price)",
}

# Every LIMIT has a total order and money is in whole cents, so that no plan can change a result.
QUERIES = {
    "sign_in": "SELECT id, name FROM customers WHERE email = 'user2718@example.org'",
    "history": "SELECT id, placed, status, total FROM orders WHERE customer_id = 1618 ORDER BY placed DESC, id DESC LIMIT 10",
    "daily_revenue": "SELECT placed, count(*), sum(total) FROM orders"
    " WHERE status = 'shipped' AND placed BETWEEN '2024-05-01' AND '2024-05-14' GROUP BY placed",
    "packing_list": "SELECT sku, quantity, price FROM items WHERE order_id = 27182",
    "product_sales": "SELECT count(*), sum(quantity), sum(quantity * price) FROM items WHERE sku = 'SKU-00003'",
    "disputes": "SELECT id, customer_id, placed FROM orders WHERE status = 'disputed' ORDER BY placed, id LIMIT 20",
    "city_channels": "SELECT o.channel, count(*), sum(o.total) FROM customers c JOIN orders o ON o.customer_id = c.id"
    " WHERE c.city = 'city 42' GROUP BY o.channel",
    "bestsellers": "SELECT i.sku, sum(i.quantity) AS sold FROM orders o JOIN items i ON i.order_id = o.id"
    " WHERE o.placed BETWEEN '2024-09-02' AND '2024-09-04'"
    " GROUP BY i.sku ORDER BY sold DESC, i.sku LIMIT 10",
    "largest": "SELECT id, total FROM orders WHERE channel = 'web' ORDER BY total DESC, id DESC LIMIT 10",
}

SETTINGS = {"page_size": 4096, "cache_mb": 2, "mmap_mb": 0, "temp_store": "default"}
DEFAULTS = dict.fromkeys(INDEXES, "off") | SETTINGS


def fill(db):
    rng = random.Random(20240229)
    customers, orders, skus = 8_000, 60_000, 2_000
    db.executemany(
        "INSERT INTO customers VALUES (?, ?, ?, ?)",
        ((n, f"user{n}@example.org", f"Customer number {n}", f"city {rng.randrange(100)}") for n in range(1, customers + 1)),
    )
    item = 0
    for order in range(1, orders + 1):
        day = order * 360 // (orders + 1)
        placed = f"2024-{day // 30 + 1:02}-{day % 30 + 1:02}"
        status = rng.choices(("shipped", "returned", "pending", "disputed"), (899, 80, 20, 1))[0]
        channel = rng.choice(("web", "app", "shop", "phone"))
        total = 0
        for _ in range(rng.randint(1, 5)):
            item += 1
            quantity, price = rng.randint(1, 4), rng.randint(99, 29_999)
            total += quantity * price
            # Squaring makes some products sell far more than others.
            sku = f"SKU-{int(skus * rng.random() ** 2):05}"
            db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", (item, order, sku, quantity, price))
        db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?)", (order, rng.randint(1, customers), placed, status, channel, total))


def folder():
    path = Path(tempfile.gettempdir()) / "tg-proto"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@cache
def base():
    key = hashlib.sha256((SCHEMA + inspect.getsource(fill)).encode()).hexdigest()[:16]
    path = folder() / f"shop-{key}.db"
    if path.exists():
        return path
    part = path.with_suffix(f".part{os.getpid()}")
    part.unlink(missing_ok=True)
    with closing(sqlite3.connect(part)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.executescript(SCHEMA)
        fill(db)
        db.commit()
    os.replace(part, path)
    return path


def run(db):
    seconds, results = {}, {}
    for name, sql in QUERIES.items():
        start = time.perf_counter()
        rows = db.execute(sql).fetchall()
        seconds[name] = time.perf_counter() - start
        results[name] = hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()
    return seconds, results


@cache
def reference():
    with closing(sqlite3.connect(base())) as db:
        return run(db)[1]


def measure(candidate):
    s = DEFAULTS | dict(candidate)
    t0 = time.perf_counter()
    path = folder() / f"work-{os.getpid()}.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(f"file:{base()}?mode=ro&immutable=1", uri=True)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute(f"PRAGMA page_size = {int(s['page_size'])}")
        db.execute("VACUUM INTO ?", (str(path),))
    t1 = time.perf_counter()
    sizes = {}
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        page = db.execute("PRAGMA page_size").fetchone()[0]
        n = db.execute("PRAGMA page_count").fetchone()[0]
        for name, columns in INDEXES.items():
            if s[name] == "on":
                db.execute(f"CREATE INDEX {name} ON {columns}")
                m = db.execute("PRAGMA page_count").fetchone()[0]
                sizes[name] = (m - n) * page / 1e6
                n = m
    t2 = time.perf_counter()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA cache_size = {-1024 * int(s['cache_mb'])}")
        db.execute(f"PRAGMA mmap_size = {int(s['mmap_mb']) << 20}")
        db.execute(f"PRAGMA temp_store = {s['temp_store']}")
        rounds = []
        start = time.perf_counter()
        while len(rounds) < 3 or len(rounds) < 20 and time.perf_counter() - start < 0.1:
            sec, res = run(db)
            rounds.append(sec)
        best = {q: 1000 * min(r[q] for r in rounds) for q in QUERIES}
        plans = {q: [r[3] for r in db.execute("EXPLAIN QUERY PLAN " + sql)] for q, sql in QUERIES.items()}
    t3 = time.perf_counter()
    return {
        "milliseconds": sum(best.values()), "index_mb": sum(sizes.values()), "results_changed": float(res != reference()),
        "best": best, "plans": plans, "sizes": sizes, "t": (t1 - t0, t2 - t1, t3 - t2), "rounds": len(rounds), "base": n * page,
    }
