-- min_compatible: 1
create table admin_tokens (
    id          text collate "C" not null,
    name        text             not null,
    secret_hash bytea            not null,
    grants      jsonb            not null,
    created_at  timestamptz      not null,
    created_by  text             not null,
    expires_at  timestamptz,
    deleted_at  timestamptz,
    mac         bytea            not null,
    constraint admin_tokens_pkey primary key (id)
);
comment on table admin_tokens is
    'Bearer tokens of the admin API: SHA-256 of the secret and what the token may do; mac under the system keyring.';
