drop table keyrings;
drop table heads;
drop table groups;
