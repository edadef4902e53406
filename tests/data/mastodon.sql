-- What of Mastodon's database its streaming server reads, with a few people. Written for the tests: names and types of
-- columns are Mastodon's, whatever else its tables have is left out.

CREATE TABLE accounts (
  id bigserial PRIMARY KEY,
  username varchar NOT NULL DEFAULT '',
  domain varchar,
  suspended_at timestamp without time zone
);

CREATE TABLE user_roles (
  id bigserial PRIMARY KEY,
  name varchar NOT NULL DEFAULT '',
  permissions bigint NOT NULL DEFAULT 0
);

CREATE TABLE users (
  id bigserial PRIMARY KEY,
  email varchar NOT NULL DEFAULT '',
  account_id bigint NOT NULL REFERENCES accounts,
  disabled boolean NOT NULL DEFAULT false,
  chosen_languages varchar[],
  role_id bigint REFERENCES user_roles
);

CREATE TABLE oauth_access_tokens (
  id bigserial PRIMARY KEY,
  token varchar NOT NULL UNIQUE,
  expires_in integer,
  revoked_at timestamp without time zone,
  created_at timestamp without time zone NOT NULL DEFAULT now(),
  scopes varchar,
  application_id bigint,
  resource_owner_id bigint REFERENCES users
);

CREATE TABLE lists (
  id bigserial PRIMARY KEY,
  account_id bigint NOT NULL REFERENCES accounts,
  title varchar NOT NULL DEFAULT ''
);

CREATE TABLE settings (
  id bigserial PRIMARY KEY,
  var varchar NOT NULL UNIQUE,
  value text
);

CREATE TABLE blocks (
  id bigserial PRIMARY KEY,
  account_id bigint NOT NULL,
  target_account_id bigint NOT NULL,
  UNIQUE (account_id, target_account_id)
);

CREATE TABLE mutes (
  id bigserial PRIMARY KEY,
  account_id bigint NOT NULL,
  target_account_id bigint NOT NULL,
  hide_notifications boolean NOT NULL DEFAULT true,
  expires_at timestamp without time zone,
  UNIQUE (account_id, target_account_id)
);

CREATE TABLE account_domain_blocks (
  id bigserial PRIMARY KEY,
  domain varchar,
  account_id bigint,
  UNIQUE (account_id, domain)
);

CREATE TABLE custom_filters (
  id bigserial PRIMARY KEY,
  account_id bigint NOT NULL,
  expires_at timestamp without time zone,
  phrase text NOT NULL DEFAULT '',
  context varchar[] NOT NULL DEFAULT '{}',
  action integer NOT NULL DEFAULT 0
);

CREATE TABLE custom_filter_keywords (
  id bigserial PRIMARY KEY,
  custom_filter_id bigint NOT NULL REFERENCES custom_filters ON DELETE CASCADE,
  keyword text NOT NULL DEFAULT '',
  whole_word boolean NOT NULL DEFAULT true
);

-- Accounts 1 to 6 with users of the same numbers; 7 and 8 are elsewhere. Ann is an administrator.
INSERT INTO accounts (id, username, domain) VALUES
  (1, 'ann', NULL), (2, 'bob', NULL), (3, 'cyd', NULL), (4, 'dee', NULL), (5, 'eve', NULL), (6, 'fay', NULL),
  (7, 'gus', 'far.example'), (8, 'hal', 'bad.example');
INSERT INTO user_roles (id, name, permissions) VALUES (1, 'Administrator', 1048576 | 1), (2, 'Moderator', 1308);
INSERT INTO users (id, account_id, role_id) VALUES (1, 1, 1), (2, 2, NULL), (3, 3, 2), (4, 4, NULL), (5, 5, NULL), (6, 6, NULL);
-- Dee reads German and French.
UPDATE users SET chosen_languages = '{de,fr}' WHERE id = 4;
INSERT INTO oauth_access_tokens (id, token, scopes, resource_owner_id) VALUES
  (101, 'token-ann', 'read write follow push', 1), (102, 'token-bob', 'read', 2), (103, 'token-cyd', 'read', 3),
  (104, 'token-dee', 'read', 4), (105, 'token-eve', 'read', 5), (106, 'token-fay', 'read', 6),
  (111, 'token-ann-too', 'read', 1),
  (121, 'token-bob-statuses', 'read:statuses', 2), (122, 'token-bob-notifications', 'read:notifications', 2),
  (123, 'token-bob-writes', 'write', 2), (124, 'token-bob-scopeless', NULL, 2),
  (131, 'token-of-an-app', 'read', NULL);
INSERT INTO oauth_access_tokens (id, token, scopes, resource_owner_id, revoked_at) VALUES
  (132, 'token-revoked', 'read', 2, now());
INSERT INTO lists (id, account_id, title) VALUES (1, 1, 'of ann'), (2, 2, 'of bob');
-- Bob blocks Cyd, mutes Gus of far.example and blocks bad.example; Eve blocks Bob.
INSERT INTO blocks (account_id, target_account_id) VALUES (2, 3), (5, 2);
INSERT INTO mutes (account_id, target_account_id) VALUES (2, 7);
INSERT INTO account_domain_blocks (account_id, domain) VALUES (2, 'bad.example');
-- Bob is warned of spoilers, Fay hides cats.
INSERT INTO custom_filters (id, account_id, phrase, context, action) VALUES
  (1, 2, 'Spoilers', '{home,public}', 0), (2, 6, 'Cats', '{public}', 1);
INSERT INTO custom_filters (id, account_id, phrase, context, action, expires_at) VALUES
  (3, 2, 'Over', '{public}', 0, now() at time zone 'utc' - interval '1 day');
INSERT INTO custom_filter_keywords (custom_filter_id, keyword, whole_word) VALUES
  (1, 'spoiler', true), (1, 'ending', true), (2, 'cat', false), (3, 'news', true);
-- What is inserted without a number comes after these.
SELECT setval(pg_get_serial_sequence(name, 'id'), 1000) FROM unnest(ARRAY[
  'accounts', 'user_roles', 'users', 'oauth_access_tokens', 'lists', 'custom_filters']) AS name;
