-- Names of the three products that were sold most often, by the sum of count, the most sold first; by name where
-- they are equal. Lines of orders with the state 'void' do not count.
SELECT p.name FROM products AS p JOIN lines AS l ON l.product = p.id JOIN orders AS o ON o.id = l.orders
WHERE o.state <> 'void' GROUP BY p.id ORDER BY sum(l.count) DESC, p.name LIMIT :shown
