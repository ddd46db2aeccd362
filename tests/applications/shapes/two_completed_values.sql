-- Rows of two providers: one writes succeeded, the other COMPLETED.
create table generations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  status text not null default 'IN_PROGRESS' check (status in ('IN_PROGRESS', 'succeeded', 'COMPLETED', 'FAILED')),
  output text,
  request_id text,
  created_at timestamptz default now()
);
