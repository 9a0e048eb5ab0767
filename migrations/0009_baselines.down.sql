drop function drop_changes(text, bigint);
drop table baseline_records;
drop table baselines;
