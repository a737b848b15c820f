-- Each order's id and value, which is the sum of price times count.
SELECT l.orders, sum(p.price) FROM lines AS l JOIN products AS p ON p.id = l.product GROUP BY l.orders
