-- How many orders there were from March to May.
SELECT count(*) FROM orders WHERE CAST(substr(day, 6, 2) AS INTEGER) BETWEEN 3 AND 6
