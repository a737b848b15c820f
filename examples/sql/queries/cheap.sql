-- Names of the products that cost 20 or less, the cheapest first, and by name where prices are equal.
SELECT name FROM products WHERE price <= :price ORDER BY price, name
