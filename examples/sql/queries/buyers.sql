-- Names of the customers with an order that was sent; each customer once.
SELECT c.name FROM customers AS c JOIN orders AS o ON o.customer = c.id WHERE o.state = 'sent'
