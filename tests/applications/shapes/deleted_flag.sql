-- A boolean flag for deleted rows, and a column of the application's own type for ids.
create domain ulid as text check (value ~ '^[0-9A-Z]{26}$');
create table creations (
  id ulid primary key,
  account text,
  status text default 'queued',
  output jsonb,
  request_id text,
  archived boolean not null default false,
  created_at timestamptz default now()
);
