-- The status is a number, with a check constraint.
create table predictions (
  prediction_id uuid primary key default gen_random_uuid(),
  user_id text,
  status int not null default 0 check (status between 0 and 3),
  output json,
  created_at timestamptz
);
