-- min_compatible: 1
create table wakeups (
    topic   text collate "C" not null,
    counter bigint           not null,
    constraint wakeups_pkey primary key (topic)
) with (fillfactor = 50);
comment on table wakeups is
    'Counters that move with state that has no revision (groups, keyrings, tokens, gateways), for replicas that poll.';
insert into wakeups (topic, counter)
values ('groups', 0), ('keyrings', 0), ('admin-tokens', 0), ('join-tokens', 0), ('gateways', 0), ('authorities', 0);
