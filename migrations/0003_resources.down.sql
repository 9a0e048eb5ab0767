drop table changes;
drop table resources;
