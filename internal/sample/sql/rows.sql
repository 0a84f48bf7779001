-- Small tables whose rows are all there is to them.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET search_path = '';
SET ROLE sample_owner;

INSERT INTO app.nothing SELECT FROM generate_series(1, 7);
INSERT INTO app.documents VALUES (1, 'sample_writer', true, 'public'), (2, 'sample_writer', false, E'\\.'), (3, 'Sample Reader', false, NULL);
INSERT INTO app.vault_entries VALUES (1, E'Größe, "quoted", it''s \\ here', '\x00ff5c2e0a'), (2, 'other', NULL);
INSERT INTO app.tree VALUES (1, NULL, 'root'), (2, 1, E'a\tb'), (3, 2, 'c'), (4, 1, '');
BEGIN;
INSERT INTO app.chicken VALUES (1, 1), (2, 2);
INSERT INTO app.egg VALUES (1, 2), (2, 1);
COMMIT;
INSERT INTO app.base_log VALUES ('2026-01-01 00:00+00', 'parent'), ('-infinity', E'C:\\new\\table');
INSERT INTO app.login_log VALUES ('infinity', 'child', '2001:db8::1/64'), ('2026-01-02 03:04:05.678901+00', 'child', NULL);
INSERT INTO app.cache VALUES ('unlogged', 'and still dumped'), ('', NULL);
INSERT INTO app.shifts VALUES (1, '[1,5)'), (1, '[5,9)'), (2, 'empty'), (3, NULL);
INSERT INTO app.buckets SELECT 'key ' || n, nullif(n % 7, 0) FROM generate_series(1, 100) n;

INSERT INTO app.specimens (id) VALUES (1);
INSERT INTO app.specimens VALUES
 (2, true, -32768, -2147483648, -9223372036854775808, 'NaN', 'NaN', 'NaN', '', '', '', '', '-infinity', '00:00', '00:00+15:59',
  '-infinity', '-infinity', '-178000000 years', '00000000-0000-0000-0000-000000000000', '0.0.0.0/0', '::/0', '00:00:00:00:00:00',
  B'00000', B'', '(0,0)', '((0,0),(0,0))', '[(0,0),(1,1)]', '((0,0),(1,1),(1,0))', '<(0,0),0>',
  'null', 'null', '', '', 'empty', '(,)', 'empty', '{}', '{}', '{}', '{}'),
 (3, false, 32767, 2147483647, 9223372036854775807, 0.000000000000000000000000000000000001, 'Infinity', '-Infinity',
  E'\\N', E'\\.', E' \t ', '\x00', 'infinity', '24:00', '23:59:59.999999-12:30',
  'infinity', 'infinity', '1 year 2 mons -3 days 04:05:06.789', 'ffffffff-ffff-ffff-ffff-ffffffffffff', '192.168.1.7/24', '10.0.0.0/8',
  'ff:ff:ff:ff:ff:ff', B'11111', B'1', '(NaN,Infinity)', '((1e300,1e-300),(-1,-1))', '((0,0),(1,1))', '((0,0),(1,1),(1,0))', '<(1,1),1e-5>',
  E'{"a" : "line\\nbreak", "a" : 2}', E'{"a": "tab\\t\\\\.", "\u00fc": [1.50, null, true]}', E'\'it\'\'s\':1A \'\\\\\':2B', E'\'a\' & !\'b\':*A',
  '(,5)', '["2026-01-01 00:00+00",infinity)', '[0.5,)', '{1,NULL,-3}', E'{{"a,b","{}"},{"\\"q\\"","\\\\."}}', E'{free,"two\nlines",NULL}',
  ARRAY[ROW(E'Weg "7", it''s\n', 'D-12345', 'DE'), NULL, ROW(NULL, '', NULL)]::app.address[]),
 (4, NULL, 0, 0, 0, 12345678901234567890123456789012345678901234567890.123456789, -0.0, 4.9e-324, 'Zürich ß €  𝄞', 'ÅÄÖ', 'é', '\x5c2e0a0d09',
  '4713-01-01 BC', '12:34:56.789', '12:34:56+02', '0044-03-15 12:00 BC', '294276-12-31 23:59:59.999999+00', '00:00:00.000001',
  'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::ffff:1.2.3.4', '2001:db8::/32', '08:00:2b:01:02:03', B'10101', B'1010101010101010101010101010101010101010',
  '(-0,1.7976931348623157e308)', '((1,2),(0.1,0.2))', '[(1,2)]', '((1,2))', '<(-1,-2),3>', '[]', '[]', 'plain words', 'a <-> b', '[1,1]',
  'empty', '(,)', '[0:1]={1,2}', '{{a},{NULL}}', NULL, NULL);

INSERT INTO app.lines (id, body, raw)
SELECT n, text, pg_catalog.convert_to(text, 'UTF8') FROM unnest(ARRAY[
  NULL, '', E'\n', E'\r', E'\r\n', E'\t', E'\\', E'\\\\', E'\\.', E'\\.\n', E'\n\\.\n', E'\\N', 'N', 'NULL',
  E'COPY app.users (id) FROM stdin;', E'COPY app.users (id) FROM stdin;\n1\n\\.\n', E'--\n-- PostgreSQL database dump complete\n--\n',
  E'\\connect template1', E'\\! echo', E'\\restrict x', E'\\unrestrict x', E'$$', E'$_$', E'''', E'"', ';', E'''; DROP TABLE app.users; --',
  E' leading and trailing ', E'\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x1b\x1f\x7f', E'\u0085\u2028\u2029\ufeff\u200b',
  E'e\u0301 is not \u00e9', E'𝄞 𐍈 😀 👩‍👩‍👧', E'\tstarts with a tab', E'ends with a backslash\\', E'\\x41', E'\\101', E'%s %d {} ${x} `x`',
  repeat(E'\\', 1000), repeat(E'\r\n', 1000), repeat(E'\t', 1000), repeat(E'\n', 1000), repeat(E'\\.\n', 1000)
]) WITH ORDINALITY AS line (text, n);
INSERT INTO app.lines SELECT 1000, repeat(E'a very long line \\ \t', 60000), NULL;
INSERT INTO app.lines SELECT 2000 + n, E'row\r' || n || E'\n\\.\r\n\t' || repeat(E'\\', n % 5), decode(lpad(to_hex(n % 256), 2, '0') || '5c2e0a', 'hex')
  FROM generate_series(0, 511) n;
RESET ROLE;

INSERT INTO "Weird Schäma"."Table ""with"" 'quotes'"
  SELECT n, 'a.b ' || n, 'UPPER', 'ключ', '日本', E'\t', E'\\' FROM generate_series(1, 5) n;
INSERT INTO "Weird Schäma"."two
lines" ("first
second") VALUES (1), (2), (NULL);
INSERT INTO "Weird Schäma"."COPY x FROM stdin;
\.
" VALUES (1, E'\\.'), (2, NULL);
