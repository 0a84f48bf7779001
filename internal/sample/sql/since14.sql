-- What servers from 14 on know.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET search_path = '';
SET ROLE sample_owner;
CREATE FUNCTION app.atomic(number integer) RETURNS TABLE (line text, "is it?" boolean) LANGUAGE sql STABLE
BEGIN ATOMIC
  SELECT '
COPY app.users (id) FROM stdin;
1
\.
'::text, number > 0;
  SELECT CASE WHEN number > 1 THEN 'END;' ELSE $$it's$$ END, EXISTS (SELECT FROM app.users WHERE id = number);
END;
INSERT INTO app.specimens (id, a_numeric) VALUES (1001, 'Infinity'), (1002, '-Infinity');
CREATE TABLE app.compressed (id integer PRIMARY KEY, body text COMPRESSION pglz);
INSERT INTO app.compressed SELECT n, repeat('compressed ', 500 * n) FROM generate_series(1, 5) n;
CREATE TABLE app.spans (id integer PRIMARY KEY, spans int4multirange);
INSERT INTO app.spans VALUES (1, '{[1,3),[7,9)}'), (2, '{}'), (3, NULL);
RESET ROLE;
