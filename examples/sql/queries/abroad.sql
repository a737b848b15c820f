-- Names of the customers who do not live in Oslo; those whose city is not known belong to them.
SELECT name FROM customers WHERE city <> 'Oslo'
