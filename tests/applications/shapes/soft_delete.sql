-- Rows are never deleted; deleted_at says that they are.
create table artworks (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  status text default 'pending',
  output jsonb,
  deleted_at timestamptz,
  created_at timestamptz default now()
);
