-- min_compatible: 1
create table rollouts (
    group_uid text collate "C" not null,
    epoch     bigint           not null,
    revision  bigint           not null,
    version   bigint           not null,
    plan      bytea            not null,
    targets   bigint[]         not null,
    since     timestamptz      not null,
    phase     text             not null,
    reason    text             not null default '',
    actor     text             not null default '',
    mac       bytea            not null,
    constraint rollouts_pkey primary key (group_uid),
    constraint rollouts_group_fk foreign key (group_uid) references groups (uid),
    constraint rollouts_phase_ck check (phase in ('rolling', 'done', 'paused', 'aborted')),
    constraint rollouts_targets_ck check (cardinality(targets) > 0)
) with (fillfactor = 50);
comment on table rollouts is
    'Which revision each stage of a group is to run, for groups whose settings stage or freeze changes; others have no row.';
comment on column rollouts.plan is 'What the settings of that revision say of the roll-out.';
comment on column rollouts.mac is 'HMAC under the keyring of the group. As revision is always that of the head, an older row shows.';
insert into wakeups (topic, counter)
values ('rollouts', 0);
