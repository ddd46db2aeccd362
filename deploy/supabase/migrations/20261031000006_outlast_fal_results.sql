-- Outlast: FAL's webhook. Which generation it is about, and completing its row (`fal_finishes` of a binding).

select public.outlast_start_change();

-- The first of `failed_values` is the status of a failed row. A row with one of them counts as finished.
select public.outlast_add_column('public.outlast_bindings', 'failed_values', 'text[] not null default ''{}''');

-- The generation with this request id, or else the one that the address of FAL's webhook names, as far as the address
-- can be believed: FAL's signature does not cover it, and it must not give one user's files to another. So the row that
-- it names must have no request id, and no other row this one. The outputs are those of outlast_find_generation.
create or replace function public.outlast_find_named(
  p_binding text, p_generation_id text, p_request_id text,
  out binding text, out generation_id text, out user_id text, out request_id text
) language plpgsql security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_find_generation(null, null, p_request_id);
  if g.request_id is null and p_generation_id is not null then
    select * into g from public.outlast_find_generation(coalesce(p_binding, 'generations'), p_generation_id, null);
    if coalesce(g.request_id, '') <> '' then
      return;
    end if;
  end if;
  binding := g.binding;
  generation_id := g.generation_id;
  user_id := g.user_id;
  request_id := g.request_id;
end $$;

-- Writes FAL's result to the generation's row, if the binding has `fal_finishes`: {"status": "OK", "output": JSON text,
-- "urls"} or {"status": "ERROR", "error"}. Returns `written`, `not_wanted`, `finished` for a row that is finished
-- already, also by the application itself, or `rejected: ...` if the row refuses it. An output column of type text gets
-- the URL of the only file, otherwise the output as JSON; a list of text gets the URLs.
create or replace function public.outlast_finish_row(
  p_binding text, p_generation_id text, p_request_id text, p_result jsonb
) returns text language plpgsql security definer set search_path = '' set lock_timeout = '3s' as $$
declare
  b public.outlast_bindings;
  g record;
  v_finished boolean;
  v_id text;
  v_sqlstate text;
  v_message text;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  if b.fal_finishes is not true or g.id_name is null or g.output_names is null then
    return 'not_wanted';
  end if;
  perform public.outlast_lock_generation(p_binding, p_generation_id);
  begin
    execute format('select g.%I::text, %s or %s from %s g where g.%I = $1::%s and not %s for update', g.id_name,
        coalesce(public.outlast_done_sql('g', b.status_column, b.completed_values, b.output_columns), 'false'),
        case when b.status_column is null then 'false'
          else format('coalesce(g.%I::text = any (%L), false)', b.status_column, b.failed_values) end,
        g.rel, g.id_name, g.id_type, g.deleted_sql) into v_id, v_finished using p_generation_id;
    if v_id is null then
      return 'not_wanted';
    elsif v_finished then
      return 'finished';
    elsif p_result ->> 'status' = 'OK' and p_result ->> 'output' is null then
      return 'rejected: the output is too large for a message';
    end if;
    perform set_config('outlast.own_update', concat(p_binding, chr(31), v_id), true),
      set_config('search_path', public.outlast_search_path(b.schema), true);
    execute format('update %s g set %s where g.%I = $1::%s', g.rel, coalesce(
        public.outlast_result_sql(b, g.rel, p_result), format('%1$I = %1$I', g.id_name)), g.id_name, g.id_type)
      using p_generation_id, p_result, p_request_id;
    set constraints all immediate;
    perform set_config('outlast.own_update', '', true);
  exception when query_canceled or others then
    get stacked diagnostics v_sqlstate = returned_sqlstate, v_message = message_text;
    if v_sqlstate ~ '^(53|57P|58|F0|XX)' then
      raise;
    end if;
    return format('rejected: SQLSTATE %s: %s', v_sqlstate, left(v_message, 300));
  end;
  return 'written';
end $$;

-- The assignments of that update; $2 is the result, $3 the request id. Null if there are none.
create or replace function public.outlast_result_sql(b public.outlast_bindings, p_table regclass, p_result jsonb)
returns text language plpgsql stable security definer set search_path = '' as $$
declare
  v_ok boolean := p_result ->> 'status' = 'OK';
  v_status text := case when v_ok then b.completed_values[1] else b.failed_values[1] end;
begin
  return (select string_agg(format('%I = %s', a.attname, case
      when a.attname = b.status_column then format('%L::%s', v_status, format_type(a.atttypid, a.atttypmod))
      when a.attname = b.request_column then format('coalesce(nullif(g.%I::text, ''''), $3)::%s', a.attname,
        format_type(a.atttypid, a.atttypmod))
      when a.attname = b.error_column then format(case when t.is_json then 'to_json($2 ->> ''error'')::%s'
        else '($2 ->> ''error'')::%s' end, format_type(a.atttypid, a.atttypmod))
      when t.is_json then '($2 ->> ''output'')::' || t.base::regtype::text
      when t.base in ('text[]'::regtype, 'varchar[]'::regtype)
        then 'array(select jsonb_array_elements_text($2 -> ''urls''))'
      else 'case jsonb_array_length($2 -> ''urls'') when 1 then $2 -> ''urls'' ->> 0 else $2 ->> ''output'' end' end),
      ', ')
    from pg_attribute a, public.outlast_type(a.atttypid) as y (base),
      lateral (select y.base, y.base in ('json'::regtype, 'jsonb'::regtype) as is_json) t
    where a.attrelid = p_table and not a.attisdropped and (
      (a.attname = b.status_column and v_status is not null) or a.attname = b.request_column
      or (v_ok and a.attname = b.output_columns[1]) or (not v_ok and a.attname = b.error_column)));
end $$;

-- Records FAL's error, or an output without files. Returns {"state"}, as outlast_finish_row, or `no_generation`.
create or replace function public.outlast_fal_result(p_job jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  g record;
begin
  if not exists (select from public.outlast_bindings where fal_finishes) then
    return jsonb_build_object('state', 'not_wanted');
  end if;
  select * into g from public.outlast_find_named(p_job -> 'named' ->> 'binding', p_job -> 'named' ->> 'generation_id',
    p_job ->> 'request_id');
  return jsonb_build_object('state', case when g.generation_id is null then 'no_generation'
    else public.outlast_finish_row(g.binding, g.generation_id, p_job ->> 'request_id', p_job -> 'fal_result') end);
end $$;

-- Raises an error, with the option of `outlast init` to correct, if the table does not fit `write_urls`, `object_path`
-- or `fal_finishes` of the binding.
create or replace function public.outlast_check_options(p_binding text) returns void
language plpgsql stable security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
  v_problem text;
  v_option text;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  select format('%s cannot have the URL of %s: it %s', u.value, u.key, p.problem) into v_problem
    from jsonb_each_text(b.write_urls) u
    left join pg_attribute a on a.attrelid = g.rel and a.attname = u.value and not a.attisdropped
    left join lateral public.outlast_type(a.atttypid) as y (base) on true
    cross join lateral (select case when a.attname is null then 'does not exist'
      when a.attgenerated <> '' then 'is a generated column'
      when a.attname in (b.id_column, b.owner_column, b.status_column, b.request_column, b.created_column,
        b.model_column, b.error_column, b.deleted_column, b.media_column, b.media_status_column)
        then 'has another meaning in the binding'
      when y.base not in ('text'::regtype, 'varchar'::regtype, 'text[]'::regtype, 'varchar[]'::regtype)
        then 'is of type ' || format_type(a.atttypid, a.atttypmod) || ', and must be text or text[]'
      when a.attname = any (b.output_columns) and (y.base not in ('text'::regtype, 'varchar'::regtype)
          or u.key <> u.value)
        then 'is an output column; only its own URL can be replaced, in a column of type text'
      when cardinality(b.output_columns) > 1 and u.key !~ '^\[' and split_part(split_part(u.key, '.', 1), '[', 1)
          <> all (b.output_columns) then 'is not preceded by one of the output columns' end as problem) p
    where p.problem is not null limit 1;
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'invalid_parameter_value',
      hint = 'Write "output column=column": outlast init --write-url.';
  end if;
  select format('%s has no column for %s', g.rel, f) into v_problem from unnest(string_to_array(b.object_path, '/')) f
    where f ~ '^\{.*\}$' and f <> '{user_id}' and not exists (
      select from pg_attribute where attrelid = g.rel and not attisdropped and attname = btrim(f, '{}')) limit 1;
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'undefined_column',
      hint = 'Name columns of the table, or {user_id} for the owner: outlast init --object-path.';
  end if;
  if b.fal_finishes and cardinality(b.output_columns) > 1 then
    raise exception 'FAL''s webhook cannot complete rows with several output columns' using
      errcode = 'invalid_parameter_value', hint = 'Name one --output-column, or leave out --fal-finishes.';
  end if;
  select format('FAL''s webhook cannot write %s: it %s', c.name, c.problem), c.option into v_problem, v_option from (
      select a.attname as name, v.option, case when a.attgenerated <> '' then 'is a generated column'
        when y.base not in ('json'::regtype, 'jsonb'::regtype) and t.typcategory <> 'S'
          and (v.is_error or y.base not in ('text[]'::regtype, 'varchar[]'::regtype))
          then 'is of type ' || format_type(a.atttypid, a.atttypmod) end as problem
      from (values (b.output_columns[1], 'output', false), (b.error_column, 'error', true)) as v (name, option, is_error)
      join pg_attribute a on a.attrelid = g.rel and a.attname = v.name and not a.attisdropped
      join lateral public.outlast_type(a.atttypid) as y (base) on true join pg_type t on t.oid = y.base
    ) c where b.fal_finishes and c.problem is not null limit 1;
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'datatype_mismatch', hint = format(
      'Name a column of type text, json or jsonb: outlast init --%s-column; or leave out --fal-finishes.', v_option);
  end if;
  select format('no row of %s can have the status %L: %s', g.rel, v, p) into v_problem
    from unnest(b.failed_values) v, public.outlast_status_problem(g.rel, b.status_column, v) p
    where p is not null limit 1;
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'invalid_parameter_value',
      hint = 'Name the status of failed rows, or "none": outlast init --failed-value.';
  end if;
end $$;

revoke all on function public.outlast_find_named(text, text, text),
  public.outlast_finish_row(text, text, text, jsonb), public.outlast_check_options(text),
  public.outlast_result_sql(public.outlast_bindings, regclass, jsonb) from public, anon, authenticated, service_role;
revoke all on function public.outlast_fal_result(jsonb) from public, anon, authenticated;
grant execute on function public.outlast_fal_result(jsonb) to service_role;
