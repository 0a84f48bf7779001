-- What stands after the rows: indexes, constraints, views, functions, triggers, policies, grants, comments.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET search_path = '';
SET ROLE sample_owner;

CREATE UNIQUE INDEX users_email ON app.users (email);
CREATE INDEX users_profile ON app.users USING gin (profile jsonb_path_ops);
CREATE INDEX users_tags ON app.users USING gin (tags) WHERE plan <> 'free';
CREATE INDEX "users lower(name)" ON app.users (lower("displayName") text_pattern_ops DESC NULLS LAST) INCLUDE (plan);
CREATE INDEX operations_user ON app.operations (user_id, created_at DESC);
CREATE INDEX operations_day ON app.operations ((created_at AT TIME ZONE 'UTC')) WHERE kind IN ('refund', 'chargeback');
CREATE INDEX operations_created ON app.operations USING brin (created_at);
CREATE INDEX notes_words ON app.notes USING gin (to_tsvector('simple', title));
CREATE INDEX events_kind ON app.events (kind, occurred_at);
COMMENT ON INDEX app.users_profile IS 'What is asked of profiles';
CREATE STATISTICS app.events_kinds (dependencies, ndistinct) ON kind, id FROM app.events_2026_h1;
ALTER TABLE app.users ALTER COLUMN email SET STATISTICS 500;
ALTER TABLE app.users REPLICA IDENTITY USING INDEX users_email;
ALTER TABLE app.notes CLUSTER ON notes_pkey;

ALTER TABLE app.users ADD FOREIGN KEY (invited_by) REFERENCES app.users ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE app.operations ADD CONSTRAINT "operation's user" FOREIGN KEY (user_id) REFERENCES app.users (id) ON UPDATE CASCADE;
ALTER TABLE app.operations ADD CONSTRAINT amount_sane CHECK (amount BETWEEN -1000000 AND 1000000) NOT VALID;
ALTER TABLE app.notes ADD FOREIGN KEY (user_id) REFERENCES app.users ON DELETE CASCADE;
ALTER TABLE app.tree ADD FOREIGN KEY (parent) REFERENCES app.tree;
ALTER TABLE app.chicken ADD CONSTRAINT chicken_egg FOREIGN KEY (egg) REFERENCES app.egg DEFERRABLE;
ALTER TABLE app.egg ADD CONSTRAINT egg_chicken FOREIGN KEY (chicken) REFERENCES app.chicken DEFERRABLE;

CREATE VIEW app.paying WITH (security_barrier) AS
  SELECT u.id, u."displayName" AS "name of ""user""", u.plan, count(o.*) AS operations, sum(o.amount) AS total
  FROM app.users u LEFT JOIN app.operations o ON o.user_id = u.id AND o.kind = 'payment'
  WHERE u.plan <> 'free' GROUP BY u.id;
CREATE VIEW app.looks_like_a_dump AS
  SELECT E'\nCOPY app.users (id) FROM stdin;\n1\n\\.\n'::text AS text, $$-- not a comment$$::text AS other;
CREATE RECURSIVE VIEW app.branches (id, path) AS
  SELECT id, ARRAY[name] FROM app.tree WHERE parent IS NULL
  UNION ALL SELECT t.id, b.path || t.name FROM app.tree t JOIN branches b ON t.parent = b.id;
CREATE MATERIALIZED VIEW app.totals AS
  SELECT kind, count(*) AS operations, sum(amount) AS amount FROM app.operations GROUP BY kind;
CREATE UNIQUE INDEX totals_kind ON app.totals (kind);
COMMENT ON VIEW app.paying IS 'Users who pay, and what';

-- Bodies that hold every dollar quote pg_dump would choose first, and what ends a COPY block.
CREATE FUNCTION app.load_text() RETURNS text LANGUAGE plpgsql AS $body$
BEGIN
  /* The next lines are a comment:
COPY app.users (id, email) FROM stdin;
1	a@b.c
\.
  */
  RETURN $$ a dollar quote $$ || ' and another' || $_$ with a tag $_$;
END
$body$;
CREATE FUNCTION app.load_more(tab text DEFAULT E'\t\\.') RETURNS text LANGUAGE sql STABLE AS $tag$
  SELECT '
COPY app.operations FROM stdin;
\.
' || $$;$$ || '$_$' || '$_X$' || tab
$tag$;
CREATE FUNCTION app."Größe des ""Kontos"""(konto bigint, OUT summe numeric, OUT anzahl bigint) LANGUAGE sql STABLE
  SECURITY DEFINER SET search_path = app, pg_temp SET work_mem = '8MB' AS
  'SELECT sum(amount), count(*) FROM app.operations WHERE user_id = konto -- it''s quoted';
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
  NEW.updated_at := clock_timestamp();
  RETURN NEW;
END
$function$;
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''operations stay: \.''; END';
CREATE PROCEDURE app.refresh() LANGUAGE plpgsql AS $$ BEGIN REFRESH MATERIALIZED VIEW app.totals; COMMIT; END $$;
CREATE AGGREGATE app.longest (text) (SFUNC = textcat, STYPE = text, INITCOND = E'it''s \\. ');
CREATE TEXT SEARCH CONFIGURATION app.plain (COPY = pg_catalog.simple);
COMMENT ON FUNCTION app.load_text() IS E'$$ $_$ \\.';

CREATE TRIGGER "touch users" BEFORE UPDATE ON app.users FOR EACH ROW
  WHEN (OLD.profile IS DISTINCT FROM NEW.profile OR OLD.plan <> NEW.plan) EXECUTE FUNCTION app.touch();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON app.operations FOR EACH STATEMENT EXECUTE FUNCTION app.refuse();
CREATE TRIGGER refuse_delete BEFORE DELETE ON app.snapshots FOR EACH ROW EXECUTE FUNCTION app.refuse();
ALTER TABLE app.snapshots DISABLE TRIGGER refuse_delete;
ALTER TABLE app.operations ENABLE ALWAYS TRIGGER refuse_truncate;
COMMENT ON TRIGGER "touch users" ON app.users IS 'Keeps updated_at';
CREATE RULE "no deletes" AS ON DELETE TO app.documents DO INSTEAD NOTHING;

ALTER TABLE app.documents ENABLE ROW LEVEL SECURITY;
CREATE POLICY "own, or public" ON app.documents USING (public OR owner_name = CURRENT_USER) WITH CHECK (owner_name = CURRENT_USER);
CREATE POLICY readers ON app.documents AS RESTRICTIVE FOR SELECT TO "Sample Reader" USING (body <> E'\\.');
ALTER TABLE app.vault_entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE app.vault_entries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON app.vault_entries TO sample_writer USING (tenant = current_setting('sample.tenant', true));
COMMENT ON POLICY tenant ON app.vault_entries IS 'One tenant sees its own';

GRANT SELECT, INSERT, UPDATE ON app.users, app.operations, app.notes TO "rôle d'essai ""β""" WITH GRANT OPTION;
GRANT SELECT (id, label), UPDATE (label) ON app.snapshots TO "Sample Reader";
REVOKE SELECT ON app.vault_entries FROM "Sample Reader";
GRANT ALL ON app.documents TO PUBLIC;
GRANT USAGE, SELECT ON SEQUENCE app.event_numbers TO "Sample Reader";
GRANT EXECUTE ON FUNCTION app."Größe des ""Kontos"""(bigint) TO "Sample Reader";
GRANT EXECUTE ON PROCEDURE app.refresh() TO "rôle d'essai ""β""";
GRANT USAGE ON TYPE app.address TO "Sample Reader";
REVOKE USAGE ON TYPE app.plan FROM PUBLIC;

RESET ROLE;
SELECT setval('app.event_numbers', 1000000), setval('"Weird Schäma"."Séquence ""x"""', 41, false);
CREATE MATERIALIZED VIEW "Weird Schäma"."Not filled" AS SELECT 1 AS one WITH NO DATA;
