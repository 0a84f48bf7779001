PRAGMA page_size = 4096;
PRAGMA application_id = 1935764591;
PRAGMA user_version = 7;
CREATE TABLE accounts (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  email TEXT NOT NULL UNIQUE COLLATE NOCASE,
  name TEXT NOT NULL,
  password BLOB NOT NULL,
  avatar BLOB,
  created TEXT NOT NULL,
  seen TEXT,
  visits INTEGER NOT NULL DEFAULT 0,
  initial TEXT GENERATED ALWAYS AS (substr(name, 1, 1)) VIRTUAL
);
CREATE TABLE sessions (
  number INTEGER PRIMARY KEY,
  token BLOB NOT NULL UNIQUE,
  account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
  device TEXT,
  data TEXT CHECK (json_valid(data)),
  expires INTEGER NOT NULL
);
CREATE INDEX sessions_account ON sessions (account, expires DESC);
CREATE INDEX "expired ""sessions""" ON sessions (expires) WHERE device IS NULL;
CREATE INDEX accounts_name ON accounts (lower(name));
CREATE TABLE settings (scope TEXT NOT NULL, key TEXT NOT NULL, value, PRIMARY KEY (scope, key)) WITHOUT ROWID;
INSERT INTO settings VALUES
  ('types', 'null', NULL), ('types', 'integer', 9223372036854775807), ('types', 'negative', -9223372036854775808),
  ('types', 'real', 0.1), ('types', 'infinity', 9e999), ('types', 'text', 'it''s "Größe" 日本' || char(13, 10, 9, 0, 92)),
  ('types', 'empty text', ''), ('types', 'empty blob', x''), ('types', 'blob', x'00ff5c2e0a'), ('types', 'number as text', '42');
CREATE TABLE "odd ""name""
of two lines" ("select" TEXT, "a.b" INTEGER, "größe");
INSERT INTO "odd ""name""
of two lines" VALUES ('x', 1, 1.5), (NULL, NULL, NULL);
CREATE TABLE empty (nil);
CREATE TABLE large (id INTEGER PRIMARY KEY, body BLOB);
-- Longer than a page, so that it stands on overflow pages.
INSERT INTO large VALUES (1, zeroblob(300000)), (2, CAST(replace(hex(zeroblob(50000)), '00', 'over' || char(10)) AS BLOB));
CREATE VIRTUAL TABLE messages USING fts5 (subject, body, tokenize = 'unicode61 remove_diacritics 2');
CREATE VIEW active AS SELECT a.name, count(*) AS sessions FROM accounts a JOIN sessions s ON s.account = a.id GROUP BY a.id;
CREATE TABLE audit (at TEXT NOT NULL, what TEXT NOT NULL);
CREATE TRIGGER accounts_email AFTER UPDATE OF email ON accounts BEGIN
  INSERT INTO audit VALUES (datetime('now'), old.email || ' -> ' || new.email);
END;
