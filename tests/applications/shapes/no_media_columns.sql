-- The application's table must not get any columns, and has neither an owner nor a creation time.
create table outputs (id int primary key, status varchar(20), fal jsonb);
