-- min_compatible: 1
create table certificate_authorities (
    id          text collate "C" not null,
    kind        text             not null,
    state       text             not null,
    certificate bytea            not null,
    sealed      bytea            not null,
    not_before  timestamptz      not null,
    not_after   timestamptz      not null,
    created_at  timestamptz      not null,
    constraint certificate_authorities_pkey primary key (id),
    constraint certificate_authorities_kind_ck check (kind in ('root', 'intermediate')),
    constraint certificate_authorities_state_ck check (state in ('next', 'current', 'previous', 'retired'))
);
create unique index certificate_authorities_current_uq on certificate_authorities (kind) where state = 'current';
comment on table certificate_authorities is
    'The internal certificate authorities; the private key is in sealed, under the system keyring.';
