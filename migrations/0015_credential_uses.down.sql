alter table groups drop column uses_since;
drop table credential_uses;
