-- Names of the customers without any order.
SELECT c.name FROM customers AS c LEFT JOIN orders AS o ON o.customer = c.id WHERE o.id IS NULL
