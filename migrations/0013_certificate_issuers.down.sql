alter table join_tokens drop column root_spki;
alter table gateways drop column issuer;
