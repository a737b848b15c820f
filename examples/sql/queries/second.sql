-- The second highest price that there is.
SELECT DISTINCT price FROM products ORDER BY price DESC LIMIT 1 OFFSET :rank
