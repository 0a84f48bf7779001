-- Roles belong to the whole cluster and may be there already, from another sample database or at the same moment.
BEGIN;
LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE;
DO $roles$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'sample_owner') THEN
    CREATE ROLE sample_owner NOLOGIN;
    CREATE ROLE sample_writer LOGIN INHERIT CONNECTION LIMIT 50
      -- The verifier of the password "sample" with a fixed salt: the same seed gives the same dump.
      PASSWORD 'SCRAM-SHA-256$4096:aG9sZGZhc3Qtc2FtcGxlIQ==$0hJ+7z6eKZ2yo4+vNNSjxOQJnMOCkL5hdhn58ysqtEM=:maK1k8Qfnwvpz8Jn13BhudYbn3xjjHj06WjpW/MTr0w=';
    CREATE ROLE "Sample Reader" LOGIN VALID UNTIL '2040-01-01 00:00:00+00';
    CREATE ROLE "rôle d'essai ""β""" NOLOGIN;
    COMMENT ON ROLE sample_writer IS E'The application''s own role;\nsecond line.';
    GRANT sample_owner TO sample_writer;
    GRANT "rôle d'essai ""β""" TO "Sample Reader" WITH ADMIN OPTION;
    ALTER ROLE "Sample Reader" SET statement_timeout = '15min';
    ALTER ROLE sample_writer SET lock_timeout = '30s';
  END IF;
END
$roles$;
COMMIT;
