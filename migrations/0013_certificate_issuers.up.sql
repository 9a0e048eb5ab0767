-- min_compatible: 1
alter table gateways add column issuer text collate "C" not null default '';
comment on column gateways.issuer is
    'Which authority issued the newest certificate; empty: issued before this was noted.';

alter table join_tokens add column root_spki text collate "C" not null default '';
comment on column join_tokens.root_spki is
    'Hash of the root that the token carries, hexadecimal; empty: made before this was noted.';
