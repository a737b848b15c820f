-- Each customer's name and number of orders; 0 for those without one.
SELECT c.name, count(o.id) FROM customers AS c INNER JOIN orders AS o ON o.customer = c.id GROUP BY c.id
