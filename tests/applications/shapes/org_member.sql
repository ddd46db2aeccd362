-- Generations belong to an organization, whose owner is one of its members. Its id is text in one table, a number in the
-- other. Rows of different organizations have the same number.
create table members (org_id bigint, user_id text, role text, primary key (org_id, user_id));
create view owners as select org_id, user_id from members where role = 'owner';
insert into members values (1, 'user_2a', 'member'), (1, 'user_2abc', 'owner');
create table jobs (
  org text,
  number int,
  key uuid unique default gen_random_uuid(),
  status text default 'pending',
  output jsonb,
  request_id text,
  created_at timestamptz default now(),
  primary key (org, number)
);
