-- The mean number of lines of an order that has any, as a fraction.
SELECT count(*) / count(DISTINCT orders) FROM lines
