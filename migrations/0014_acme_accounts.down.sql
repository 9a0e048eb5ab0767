drop table acme_accounts;
