--
-- PostgreSQL database cluster dump
--

\restrict H0o6

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE "A ""b""";
ALTER ROLE "A ""b""" WITH NOSUPERUSER LOGIN PASSWORD 'SCRAM-SHA-256$4096:x;' VALID UNTIL 'infinity';
COMMENT ON ROLE "A ""b""" IS 'two
lines; -- so';
SECURITY LABEL FOR x ON ROLE "A ""b""" IS 'y';
CREATE ROLE app;
ALTER ROLE app WITH NOLOGIN;

--
-- User Configurations
--

--
-- User Config "app"
--

ALTER ROLE app SET search_path TO 'x';


--
-- Role memberships
--

GRANT app TO "A ""b""" WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;

GRANT SET ON PARAMETER work_mem TO app;

--
-- Tablespaces
--

CREATE TABLESPACE "fast disk" OWNER app LOCATION '/srv/x';
ALTER TABLESPACE "fast disk" SET (seq_page_cost=1);
GRANT ALL ON TABLESPACE "fast disk" TO app;
COMMENT ON TABLESPACE "fast disk" IS 'z';

\unrestrict H0o6

--
-- PostgreSQL database cluster dump complete
--

