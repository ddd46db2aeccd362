-- The status is an enum, and FAL's answer is stored as it is.
create type generation_status as enum ('pending', 'processing', 'done', 'error');
create table renders (
  id bigint primary key generated always as identity,
  owner uuid,
  state generation_status not null default 'pending',
  result jsonb,
  fal_request_id text unique,
  created_at timestamp not null default now()
);
