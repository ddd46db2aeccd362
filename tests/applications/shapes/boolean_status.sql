-- A boolean says that the row is complete; the output is an array of URLs.
create table jobs (
  id text primary key,
  profile_id text,
  is_ready boolean not null default false,
  urls text[],
  inserted_at timestamptz default now()
);
