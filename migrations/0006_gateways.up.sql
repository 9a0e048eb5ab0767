-- min_compatible: 1
create table join_tokens (
    id          text collate "C" not null,
    group_uid   text collate "C" not null,
    description text             not null default '',
    secret_hash bytea            not null,
    uses        integer          not null,
    used        integer          not null default 0,
    created_at  timestamptz      not null,
    created_by  text             not null,
    expires_at  timestamptz      not null,
    deleted_at  timestamptz,
    mac         bytea            not null,
    constraint join_tokens_pkey primary key (id),
    constraint join_tokens_group_fk foreign key (group_uid) references groups (uid),
    constraint join_tokens_used_ck check (used between 0 and uses)
);
comment on table join_tokens is
    'Tokens with which gateways enrol; only the SHA-256 of the secret. mac, under the keyring of the group, covers what never changes.';

create table join_token_uses (
    token_id   text collate "C" not null,
    spki_hash  bytea            not null,
    gateway_id text collate "C" not null,
    used_at    timestamptz      not null,
    constraint join_token_uses_pkey primary key (token_id, spki_hash),
    constraint join_token_uses_token_fk foreign key (token_id) references join_tokens (id)
);
comment on table join_token_uses is
    'Which key used which join token, so that enrolling again with the same key costs no further use.';

create table gateways (
    id               text collate "C" not null,
    group_uid        text collate "C" not null,
    name             text             not null default '',
    labels           jsonb            not null default '{}',
    version          text             not null default '',
    policy_types     text[]           not null default '{}',
    attestor         text             not null,
    attestation      text             not null default '',
    spki_hash        bytea            not null,
    serial           text             not null default '',
    not_after        timestamptz,
    enrolled_at      timestamptz      not null,
    revoked_at       timestamptz,
    revoked_by       text             not null default '',
    revoked_reason   text             not null default '',
    last_seen        timestamptz,
    replica          text             not null default '',
    applied_epoch    bigint           not null default 0,
    applied_revision bigint           not null default 0,
    applied_digest   bytea            not null default '',
    faults           jsonb            not null default '[]',
    constraint gateways_pkey primary key (id),
    constraint gateways_group_fk foreign key (group_uid) references groups (uid)
);
create index gateways_group_ix on gateways (group_uid);
create index gateways_revoked_ix on gateways (revoked_at) where revoked_at is not null;
create unique index gateways_key_uq on gateways (group_uid, spki_hash);
comment on table gateways is
    'Every gateway that ever enrolled: who it is, and what was last heard of it when its stream opened or closed.';

create table replica_reports (
    group_uid text collate "C" not null,
    replica   text collate "C" not null,
    at        timestamptz      not null,
    body      jsonb            not null,
    constraint replica_reports_pkey primary key (group_uid, replica),
    constraint replica_reports_group_fk foreign key (group_uid) references groups (uid)
) with (fillfactor = 50);
comment on table replica_reports is
    'What the gateways whose streams are on a replica have applied: one row per group and replica, however many gateways.';
