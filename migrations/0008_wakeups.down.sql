drop table wakeups;
