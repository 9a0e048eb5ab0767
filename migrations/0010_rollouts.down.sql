drop table rollouts;
delete from wakeups where topic = 'rollouts';
