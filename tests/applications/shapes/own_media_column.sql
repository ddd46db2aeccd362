-- The application has columns called media and media_status of its own.
create table items (
  id text primary key,
  user_id text,
  status text default 'pending',
  output jsonb,
  media jsonb default '{"mine": true}',
  media_status text default 'mine',
  created_at timestamptz default now()
);
insert into items (id) values ('before');
