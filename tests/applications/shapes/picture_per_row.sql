-- Each picture is a row of a child table; its owner is that of the parent.
create table batches (id uuid primary key default gen_random_uuid(), user_id text not null);
create table pictures (
  id bigint primary key generated always as identity,
  batch_id uuid not null references batches on delete cascade,
  url text,
  created_at timestamptz default now()
);
