drop table certificate_authorities;
