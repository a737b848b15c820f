-- Each kind with the number of its products that cost more than 50; 0 where there is none.
SELECT kind, count(*) FROM products WHERE price > :dear GROUP BY kind
