-- min_compatible: 1
create table replicas (
    name    text collate "C" not null,
    seen_at timestamptz      not null,
    constraint replicas_pkey primary key (name)
) with (fillfactor = 50);
comment on table replicas is
    'The replicas that run: a keyring changes only when all of them have read its next form.';

create table next_keyrings (
    group_uid   text collate "C" not null,
    id          text collate "C" not null,
    action      text             not null,
    term        bigint           not null,
    version     integer          not null,
    kek_id      text             not null,
    wrapped     bytea            not null,
    actor       text             not null,
    prepared_at timestamptz      not null,
    constraint next_keyrings_pkey primary key (group_uid),
    constraint next_keyrings_id_uq unique (id),
    constraint next_keyrings_group_fk foreign key (group_uid) references groups (uid),
    constraint next_keyrings_action_ck check (action in ('rotate', 'remove')),
    constraint next_keyrings_version_ck check (version > 1 and term > 0)
);
comment on table next_keyrings is
    'The next form of a keyring, wrapped, while replicas read it; nothing is sealed with it yet. The id is another one each time.';

create table keyring_readers (
    id      text collate "C" not null,
    replica text collate "C" not null,
    constraint keyring_readers_pkey primary key (id, replica),
    constraint keyring_readers_id_fk foreign key (id) references next_keyrings (id) on delete cascade
);
comment on table keyring_readers is
    'Which replicas have read the next form of a keyring.';

create table keyring_terms (
    group_uid  text collate "C" not null,
    term       bigint           not null,
    created_at timestamptz      not null,
    mac        bytea            not null,
    seals      bigint           not null default 0,
    drained_at timestamptz,
    constraint keyring_terms_pkey primary key (group_uid, term),
    constraint keyring_terms_group_fk foreign key (group_uid) references groups (uid),
    constraint keyring_terms_term_ck check (term > 0 and seals >= 0)
) with (fillfactor = 50);
comment on table keyring_terms is
    'How old the terms of the keyrings are and how often they sealed.';
comment on column keyring_terms.mac is 'HMAC under the keyring of the group, of what never changes. A row that does not verify makes its term as old as the group.';
comment on column keyring_terms.drained_at is 'When nothing was found any more under the terms before this one; null: rewrapping goes on.';

-- The runtime role cannot update changes. It may call this, which exchanges a ciphertext for one of the same length under
-- a later term, if it is still the one that was read. Rows that others have locked are passed over.
do $make$
begin
    execute format($function$
        create function rewrap_changes(of_group text, revisions bigint[], was bytea[], becomes bytea[]) returns bigint
        language sql security definer set search_path = %I, pg_temp
        as $body$
            with mine as (
                select c.revision, n.becomes
                from unnest(revisions, was, becomes) as n (revision, was, becomes)
                join changes c on c.group_uid = of_group and c.revision = n.revision and c.sealed = n.was
                where octet_length(n.becomes) = octet_length(n.was)
                    and substring(n.becomes from 1 for 1) = substring(n.was from 1 for 1)
                    and substring(n.becomes from 2 for 4) > substring(n.was from 2 for 4)
                for update of c skip locked
            ), done as (
                update changes c set sealed = m.becomes from mine m
                where c.group_uid = of_group and c.revision = m.revision
                returning 1
            )
            select count(*) from done
        $body$
        $function$, current_schema());
end
$make$;
revoke all on function rewrap_changes(text, bigint[], bytea[], bytea[]) from public;
comment on function rewrap_changes(text, bigint[], bytea[], bytea[]) is
    'Puts changes under a later term of their keyring; answers how many.';
