-- Outlast 6: which rows a sweep (`outlast reconcile`) must check. Outlast 19 finds them.

select public.outlast_start_change();

-- The part of the sweep's condition that does not name the status; null without an output column. The index of
-- outlast_install has this text as its predicate, and the planner uses it only while both are the same.
create or replace function public.outlast_unsettled_where() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_generations();
  if g.output_name is null then
    return null;
  end if;
  return format('%I is not null', g.output_name) || case when exists (
      select from pg_attribute where attrelid = g.rel and attname = 'media_status' and not attisdropped
    ) then $sql$ and (media_status in ('completed', 'partial', 'failed')) is not true$sql$ else '' end;
end $$;

-- The SQL condition for rows of the generations table that the sweep must check: completed, with an output, and without
-- a final media_status, which would mean that every file is accounted for. Null when a required column is missing. The
-- status column is cast to text only when it cannot be compared with the completed value otherwise, so that the planner
-- can compare it in the index.
create or replace function public.outlast_unheard_where() returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_done text;
begin
  select * into g from public.outlast_generations();
  if g.id_name is null or g.status_name is null or g.output_name is null or g.created_name is null then
    return null;
  end if;
  v_done := format('%I = %L', g.status_name, g.completed);
  begin
    execute format('select from %s where %s limit 0', g.rel, v_done);
  exception when others then  -- the completed value cannot be cast to the column's type
    v_done := format('%I::text = %L', g.status_name, g.completed);
  end;
  return format('%s and %s', v_done, public.outlast_unsettled_where());
end $$;

revoke all on function public.outlast_unheard_where(), public.outlast_unsettled_where()
  from public, anon, authenticated, service_role;
