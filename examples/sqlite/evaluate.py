"""Times nine queries on a small shop database under a choice of indexes and SQLite settings."""

import hashlib
import inspect
import os
import random
import sqlite3
import time
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, email TEXT, name TEXT, city TEXT);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, placed TEXT, status TEXT,
                     channel TEXT, address TEXT, total INTEGER);
CREATE TABLE items (id INTEGER PRIMARY KEY, order_id INTEGER, sku TEXT, quantity INTEGER,
                    price INTEGER);
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
    "idx_items_order_covering": "items(order_id, sku, quantity)",
    "idx_items_sku": "items(sku)",
    "idx_items_sku_covering": "items(sku, quantity, price)",
}

# Each LIMIT follows a total order and money is in whole cents, so no plan can change a result.
QUERIES = {
    "sign_in": "SELECT id, name FROM customers WHERE email = 'user2718@example.org'",
    "history": """SELECT o.id, o.placed, count(*), sum(i.quantity)
        FROM orders o JOIN items i ON i.order_id = o.id
        WHERE o.customer_id = 1618 GROUP BY o.id ORDER BY o.id DESC LIMIT 10""",
    "daily_revenue": """SELECT placed, count(*), sum(total) FROM orders
        WHERE status = 'shipped' AND placed BETWEEN '2024-05-01' AND '2024-05-14'
        GROUP BY placed""",
    "packing_list": "SELECT sku, quantity, price FROM items WHERE order_id = 27182",
    "product_sales": """SELECT count(*), sum(quantity), sum(quantity * price)
        FROM items WHERE sku = 'S0003'""",
    "disputes": """SELECT id, customer_id, placed FROM orders
        WHERE status = 'disputed' ORDER BY placed, id LIMIT 20""",
    "city_channels": """SELECT o.channel, count(*), sum(o.total)
        FROM customers c JOIN orders o ON o.customer_id = c.id
        WHERE c.city = 'city 42' GROUP BY o.channel""",
    "bestsellers": """SELECT i.sku, sum(i.quantity) AS sold
        FROM orders o JOIN items i ON i.order_id = o.id
        WHERE o.placed BETWEEN '2024-09-02' AND '2024-09-04'
        GROUP BY i.sku ORDER BY sold DESC, i.sku LIMIT 10""",
    "largest": """SELECT id, total FROM orders
        WHERE channel = 'web' ORDER BY total DESC, id DESC LIMIT 10""",
}

CHOICES = dict.fromkeys(INDEXES, ("off", "on")) | {
    "page_size": (1024, 2048, 4096, 8192, 16384, 32768),
    "cache_mb": range(1, 257),
    "mmap_mb": range(257),
    "temp_store": ("default", "file", "memory"),
}
DEFAULTS = dict.fromkeys(INDEXES, "off")
DEFAULTS |= {"page_size": 4096, "cache_mb": 2, "mmap_mb": 0, "temp_store": "default"}


def measure(candidate):
    """Return `milliseconds` of the nine queries, `index_mb` (10^6 bytes of index pages),
    `results_changed` (0 or 1) and `feedback` about slow queries and unused indexes.

    Parameters left out have their defaults; unknown names and bad values raise ValueError.
    """
    values = checked(candidate)
    original = base()
    with scratch() as path:
        sizes = build(original, path, values)
        milliseconds, rows, plans = run(path, values)
    return {
        "milliseconds": sum(milliseconds.values()),
        "index_mb": sum(sizes.values()),
        "results_changed": int(rows != reference(original)),
        "feedback": feedback(milliseconds, plans, sizes),
    }


def checked(candidate):
    values = DEFAULTS | dict(candidate)
    for name, value in values.items():
        if name not in CHOICES:
            raise ValueError(f"unknown parameter {name!r}")
        # SQLite ignores a PRAGMA value that it does not understand: nothing else would notice.
        choices = {str(choice): choice for choice in CHOICES[name]}
        if str(value) not in choices:
            raise ValueError(f"{name} is {value!r}, not one of {CHOICES[name]}")
        values[name] = choices[str(value)]
    return values


def build(original, path, values):
    """Copy the database with this page size, create the indexes and return their megabytes."""
    with closing(sqlite3.connect(original)) as db:
        db.executescript(f"PRAGMA synchronous = OFF; PRAGMA page_size = {values['page_size']}")
        db.execute("VACUUM INTO ?", (str(path),))
    sizes = {}
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF")
        [pages] = db.execute("PRAGMA page_count").fetchone()
        for name in INDEXES:
            if values[name] == "on":
                db.execute(f"CREATE INDEX {name} ON {INDEXES[name]}")
                before, [pages] = pages, db.execute("PRAGMA page_count").fetchone()
                sizes[name] = (pages - before) * values["page_size"] / 1e6
    return sizes


def run(path, values):
    """The fastest milliseconds, the sorted rows and the plan of each query."""
    best, rows, plans = {}, {}, {}
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA cache_size = {-1024 * values['cache_mb']}")
        db.execute(f"PRAGMA mmap_size = {values['mmap_mb'] << 20}")
        db.execute(f"PRAGMA temp_store = {values['temp_store']}")
        start = time.perf_counter()
        for count in range(20):
            if count >= 2 and time.perf_counter() - start > 0.15:
                break
            # Rounds over all queries: each one finds the page cache as the others left it.
            for name, sql in QUERIES.items():
                began = time.perf_counter()
                rows[name] = db.execute(sql).fetchall()
                elapsed = 1000 * (time.perf_counter() - began)
                best[name] = min(elapsed, best.get(name, elapsed))
        for name, sql in QUERIES.items():
            rows[name].sort()
            plans[name] = ", ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {sql}"))
    return best, rows, plans


@cache
def reference(original):
    return run(original, DEFAULTS)[1]


def feedback(milliseconds, plans, sizes):
    slowest = sorted(milliseconds, key=milliseconds.get, reverse=True)[:3]
    lines = [f"{name} takes {milliseconds[name]:.3g} ms: {plans[name]}" for name in slowest]
    words = " ".join(plans.values()).split()
    for title, wanted in ("indexes used", True), ("indexes built but never used", False):
        if listed := [f"{n} {mb:.2f} MB" for n, mb in sizes.items() if (n in words) is wanted]:
            lines.append(f"{title}: {', '.join(listed)}")
    return "\n".join(lines)


def fill(db):
    """Insert the same rows every time."""
    rng = random.Random(20240229)
    customers, orders, products = 8_000, 60_000, 2_000
    for n in range(1, customers + 1):
        row = (n, f"user{n}@example.org", f"Customer number {n}", f"city {rng.randrange(100)}")
        db.execute("INSERT INTO customers VALUES (?, ?, ?, ?)", row)
    item = 0
    for order in range(1, orders + 1):
        month, day = divmod(order * 360 // (orders + 1), 30)
        placed = f"2024-{month + 1:02}-{day + 1:02}"
        [status] = rng.choices(("shipped", "returned", "pending", "disputed"), (899, 80, 20, 1))
        channel = rng.choice(("web", "app", "shop", "phone"))
        address = f"{rng.randint(1, 250)} Long Street, {rng.randint(10_000, 99_999)} Town"
        total = 0
        for _ in range(rng.randint(1, 5)):
            item += 1
            # The square makes a few products sell far more than the others.
            sku = f"S{int(products * rng.random() ** 2):04}"
            quantity, price = rng.randint(1, 4), rng.randint(99, 29_999)
            total += quantity * price
            row = (item, order, sku, quantity, price)
            db.execute("INSERT INTO items VALUES (?, ?, ?, ?, ?)", row)
        row = (order, rng.randint(1, customers), placed, status, channel, address, total)
        db.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)", row)


GENERATOR = hashlib.sha256((SCHEMA + inspect.getsource(fill)).encode()).hexdigest()[:12]


def base():
    """The database without indexes, from the cache or made now.

    Its name carries the hash of what makes it and the hash of its bytes, so damage is noticed.
    """
    for path in folder().glob(f"shop-{GENERATOR}-*.db"):
        if path.stem.endswith(digest(path)):
            return path
        path.unlink(missing_ok=True)
    with scratch() as path:
        with closing(sqlite3.connect(path)) as db:
            db.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {SCHEMA}")
            fill(db)
            db.commit()
        return path.replace(folder() / f"shop-{GENERATOR}-{digest(path)}.db")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@contextmanager
def scratch():
    """The name of a file that no other evaluation uses meanwhile, removed at the end.

    A killed process leaves its file, but its lock dies with it and the next one takes both over.
    """
    for slot in range(1000):
        lock = sqlite3.connect(folder() / f"slot-{slot}.lock", timeout=0, isolation_level=None)
        with closing(lock):
            try:
                lock.execute("PRAGMA journal_mode = MEMORY")
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if "locked" in str(error):
                    continue
                raise
            path = folder() / f"slot-{slot}.db"
            remove(path)
            try:
                yield path
            finally:
                remove(path)
            return
    raise RuntimeError(f"all scratch files in {folder()} are in use")


def remove(path):
    for suffix in ("", "-journal"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def folder():
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(cache_home, "truegain", "sqlite-example")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
