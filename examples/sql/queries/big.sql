-- Ids of the orders with at least four lines.
SELECT orders FROM lines GROUP BY orders HAVING count(*) > :lines
