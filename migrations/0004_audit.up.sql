-- min_compatible: 1
create table audit (
    group_uid text collate "C" not null,
    seq       bigint           not null,
    at        timestamptz      not null,
    actor     text             not null,
    action    text             not null,
    subjects  text[]           not null,
    revision  bigint           not null,
    detail    text             not null,
    prev      bytea            not null,
    mac       bytea            not null,
    constraint audit_pkey primary key (group_uid, seq),
    constraint audit_group_fk foreign key (group_uid) references groups (uid),
    constraint audit_seq_ck check (seq > 0)
);
comment on table audit is
    'One chain of events per group: mac covers the row and prev, the mac of the row before; the last one is in the head. Insert only.';
