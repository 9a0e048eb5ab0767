drop table admin_tokens;
