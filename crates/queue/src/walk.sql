walk(lane, step) AS (
    SELECT coalesce(
        (SELECT jobs.lane FROM jobs WHERE jobs.lane > $1 AND jobs.lane < coalesce(
            (SELECT id FROM lanes WHERE crowded AND id > $1 ORDER BY id LIMIT 1), $3
        ) AND lease_token IS NULL ORDER BY jobs.lane LIMIT 1),
        (SELECT id FROM lanes WHERE crowded AND id > $1 ORDER BY id LIMIT 1)
    ), 1
    UNION ALL
    SELECT CASE WHEN NOT ({is_stepped_over}) THEN coalesce(
        (SELECT jobs.lane FROM jobs WHERE jobs.lane > walk.lane AND jobs.lane < coalesce(
            (SELECT id FROM lanes WHERE crowded AND id > walk.lane ORDER BY id LIMIT 1), $3
        ) AND lease_token IS NULL ORDER BY jobs.lane LIMIT 1),
        (SELECT id FROM lanes WHERE crowded AND id > walk.lane ORDER BY id LIMIT 1)
    ) ELSE coalesce(
        (SELECT jobs.lane FROM jobs WHERE jobs.lane >= {next_open} AND jobs.lane < coalesce(
            (SELECT id FROM lanes WHERE crowded AND id >= {next_open} ORDER BY id LIMIT 1), $3
        ) AND lease_token IS NULL ORDER BY jobs.lane LIMIT 1),
        (SELECT id FROM lanes WHERE crowded AND id >= {next_open} ORDER BY id LIMIT 1)
    ) END, step + 1
    FROM walk WHERE walk.lane IS NOT NULL AND step < $2
)
