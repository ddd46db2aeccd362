-- One row has an image, a video and a thumbnail, each in a column of its own.
create table posts (
  id uuid primary key default gen_random_uuid(),
  author_id uuid,
  image_url text,
  video_url text,
  thumbnail_url text,
  stored_url text,
  created_at timestamptz default now()
);
