-- Outlast 6: which rows a sweep (`outlast reconcile`) must check, and the index to find them. Outlast 19 finds them.

select public.outlast_start_change();

-- The part of the sweep's condition that does not name the status; null without the output columns. The index of
-- outlast_install has this text as its predicate, and the planner uses it only while both are the same.
create or replace function public.outlast_unsettled_where(p_binding text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
  v_output text;
begin
  select * into g from public.outlast_bound(p_binding);
  if g.output_names is null then
    return null;
  end if;
  v_output := (select string_agg(format('%I is not null', c), ' or ') from unnest(g.output_names) c);
  return case when cardinality(g.output_names) > 1 then format('(%s)', v_output) else v_output end
    || case when exists (
      select from pg_attribute where attrelid = g.rel and attname = g.media_status_name and not attisdropped
    ) then format($sql$ and (%I in ('completed', 'partial', 'failed')) is not true$sql$, g.media_status_name)
    else '' end;
end $$;

-- The SQL condition for rows of a bound table that the sweep must check: completed, with an output, and without a final
-- media_status, which would mean that every file is accounted for. Null when a required column is missing. The status
-- column is cast to text only when it cannot be compared with the completed values otherwise, so that the planner can
-- compare it in the index.
create or replace function public.outlast_unheard_where(p_binding text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
  v_done text;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  if g.id_name is null or g.output_names is null or (g.status_name is null) <> (b.status_column is null)
    or (g.created_name is null) <> (b.created_column is null)
  then
    return null;
  end if;
  if g.status_name is null then
    return public.outlast_unsettled_where(p_binding);
  end if;
  v_done := (select case count(*) when 1 then format('%I = %s', g.status_name, string_agg(quote_literal(v), ''))
    else format('%I in (%s)', g.status_name, string_agg(quote_literal(v), ', ')) end from unnest(g.completed) v);
  begin
    execute format('select from %s where %s limit 0', g.rel, v_done);
  exception when others then  -- a completed value cannot be cast to the column's type
    v_done := format('%I::text = any (%L)', g.status_name, g.completed);
  end;
  return format('%s and %s', v_done, public.outlast_unsettled_where(p_binding));
end $$;

create or replace function public.outlast_index_name(p_binding text) returns text
language sql immutable security definer set search_path = '' as $$
  select case p_binding when 'generations' then 'outlast_unheard' else 'outlast_unheard_' || p_binding end
$$;

-- The statement that creates the sweep's index, whose predicate is a part of the sweep's condition; null without a
-- usable table. The status is a column of the index and not in its predicate: PostgreSQL rebuilds the index when the
-- application changes the type of the status, and a comparison with a value of the old type would fail then.
create or replace function public.outlast_index_wanted(p_binding text) returns text
language sql stable security definer set search_path = '' as $$
  select format('create index %I on %s (%s) where %s', public.outlast_index_name(p_binding), g.rel, concat_ws(', ',
      quote_ident(coalesce(g.created_name, g.id_name)), quote_ident(g.status_name)), w.condition)
  from public.outlast_bound(p_binding) g, public.outlast_unsettled_where(p_binding) as w (condition)
  where public.outlast_unheard_where(p_binding) is not null
$$;

-- Creates an index on the rows with an output whose media_status is not final. There are few of them, so a sweep is
-- fast on a table of millions of rows. The index comment holds its definition; another definition replaces the index.
-- Writes to the table wait while the index is built, which takes seconds on millions of rows. Without the index the
-- sweep still works but reads the whole table, so a failure is only a warning.
create or replace function public.outlast_install_index(p_binding text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_old record;
  v_name text := public.outlast_index_name(p_binding);
  v_wanted text := public.outlast_index_wanted(p_binding);
begin
  select * into g from public.outlast_bound(p_binding);
  for v_old in select c.oid::regclass as name from pg_class c join pg_index i on i.indexrelid = c.oid
      where c.relname = v_name
        and (i.indrelid <> g.rel or not i.indisvalid
             or obj_description(c.oid, 'pg_class') is distinct from v_wanted) loop
    perform public.outlast_lock_tables(g.rel);
    execute format('drop index %s', v_old.name);
  end loop;
  if not exists (select from pg_class where relname = v_name) then
    perform public.outlast_lock_tables(g.rel);
    begin
      execute v_wanted;
      execute format('comment on index %s.%I is %L', (
        select relnamespace::regnamespace from pg_class where oid = g.rel), v_name, v_wanted);
    exception when others then
      raise warning 'outlast: each sweep reads the whole table, because no index on % could be created: % (SQLSTATE %)',
        g.rel, sqlerrm, sqlstate;
    end;
  end if;
end $$;

revoke all on function public.outlast_index_name(text), public.outlast_index_wanted(text),
  public.outlast_install_index(text),
  public.outlast_unheard_where(text), public.outlast_unsettled_where(text)
  from public, anon, authenticated, service_role;
