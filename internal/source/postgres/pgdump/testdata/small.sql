--
-- PostgreSQL database dump
--

\restrict 0aB9

-- Dumped from database version 15.20
-- Dumped by pg_dump version 15.20

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Name: t; Type: TABLE; Schema: public; Owner: app; Tablespace: fast
--

CREATE TABLE public.t (
    id integer DEFAULT 1 NOT NULL,
    note text
);


ALTER TABLE public.t OWNER TO app;

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: app
--

COPY public.t (id, note) FROM stdin;
1	a
2	\\.
\.


--
-- Name: s; Type: SEQUENCE SET; Schema: public; Owner: app
--

SELECT pg_catalog.setval('public.s', 42, true);


--
-- PostgreSQL database dump complete
--

\unrestrict 0aB9

