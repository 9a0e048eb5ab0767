drop table replica_reports;
drop table gateways;
drop table join_token_uses;
drop table join_tokens;
